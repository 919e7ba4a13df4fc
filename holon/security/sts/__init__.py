"""Short-lived tokens for workers: what signs them, what renews them, and what ends them."""
