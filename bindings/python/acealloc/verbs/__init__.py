"""The verbs of `ace`, a module each: `add_to(subparsers)` declares it, `main(arguments)` does it."""
