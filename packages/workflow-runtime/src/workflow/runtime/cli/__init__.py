"""The command line. Loaded by `workflow.runtime.__main__` alone: it needs what `workflow-runtime[cli]` installs."""
