"""APIs and functions behind gateways: documents into tools, calls into requests."""
