"""Local `evaluate` modules, importable as a package too."""
