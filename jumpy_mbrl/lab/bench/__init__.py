"""Speed: what the environments, training and prediction cost, beside what they are compared with.

What a row compares is measured in the same run, on one core, in turn with its anchor. The best of
several rounds counts, because whatever else the machine does can only slow one down.
"""
