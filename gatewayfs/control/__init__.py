"""How the command line speaks with a running gateway: a unix socket, one JSON call per connection (``protocol``)."""
