"""Playing a rollout's policy before it is used, and again on what was recorded.

What lives here: simulated traffic (`world`, `traffic`), the policy played on thousands of rollouts at once (`arrays`,
`judge`, `play`), the questions a person asks of it (`grid`, `promises`, `report`), and the replay of recorded evidence
(`recorded`, `replay`). What never does: rules of its own. Bounds, budgets and tests are those of `deploy.statistics`
and `deploy.rollout`, and a test drives the real engine through the same draws to the same outcomes.
"""
