"""The book's own measurements on the small worlds."""
