"""The commands of `stack`, a file for each noun. They parse words, call the client, and print; nothing else."""
