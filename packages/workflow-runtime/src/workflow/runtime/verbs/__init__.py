"""What a runtime can be asked to do, one module for each kind of verb. `WorkflowRuntime` is all of them together."""
