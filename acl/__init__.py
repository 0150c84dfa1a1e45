"""All about ACLs: the language, what a policy resolves to, an evaluator, the compiler to flows, and FAUCET's files."""
