"""What the programs of this folder do alike: how they read their arguments, find and run kinship, and end."""
