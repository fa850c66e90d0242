"""Functions of others: AWS Lambda."""
