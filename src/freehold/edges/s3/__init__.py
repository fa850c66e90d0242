"""The part of S3's wire that uploads, reads and lists objects, over the blobs port."""
