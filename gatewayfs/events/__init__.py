"""Telling others what happened: events in AWS Storage Gateway's shape, kept until a target took them."""
