"""Faults by chance on the real control plane, and a checker outside that says whether the promises held.

``python -m e2e.chaos --seed 7 --minutes 10``, or ``make chaos``. The same seed gives the same faults in the same order.
"""
