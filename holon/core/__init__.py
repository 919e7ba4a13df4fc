"""The core: rows in memory, rules that change them, and batches that make the changes durable."""
