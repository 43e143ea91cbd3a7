"""Other ways to divide traffic than the staircase of a rollout: an A/B test with a declared end, and bandits.

Here: pure policies over sums (`ab_test`, `bandit`), and when delayed rewards may be counted (`maturing`). Nothing here
moves traffic, and the rollout engine does not call it: no field of the project file names a strategy.
"""
