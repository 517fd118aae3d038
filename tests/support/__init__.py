"""What tests of several layers share: S3 servers, a daemon under control, a link with faults."""
