"""`make soak`: everything goes wrong at random, and then it is proved that nothing was lost.

Callers of all kinds ask a real hub; agents and scripted workers answer, or fail in every way that the protocol has,
through proxies that do to their links what networks do; agents and the hub are killed. In the end `checker`
holds every caller's transcript, every worker's log and the database against each other.

The seed is printed. The same one gives every actor the same decisions; when they meet is up to the machine.
"""
