"""What a candidate is judged by."""
