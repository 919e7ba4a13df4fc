"""The ledger: the store's rules as plain synchronous code over rows in memory.

`MemoryStorage` is this and nothing else. `SqliteStorage` runs it in its writer thread and writes the rows that changed
in one transaction for a group of operations; when that fails, the ledger takes its changes back.
"""
