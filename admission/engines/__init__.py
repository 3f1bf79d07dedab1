"""Who queues a workload, and how it joins a queue: one module an engine, behind `registry.QueueEngine`.  Pure."""
