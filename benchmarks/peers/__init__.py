"""Other engines beside ours: each as its own documentation says, on the disk, doing the same."""
