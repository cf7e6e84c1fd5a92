print("usage: Probes NAME [ARGUMENT …]")
