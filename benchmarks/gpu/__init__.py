"""All that a GPU is to show that is lent for some minutes, in stages; see GPU.md beside this folder."""
