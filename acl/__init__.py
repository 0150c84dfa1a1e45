"""ACLs: the language, policies, an evaluator, the compiler to flows, and the reader of FAUCET's files."""
