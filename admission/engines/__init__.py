"""Who queues a workload, and how it joins a queue.  Pure."""
