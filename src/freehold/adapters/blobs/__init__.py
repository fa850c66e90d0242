"""The blobs port over a directory, or over any S3 server."""
