"""The rollout: a pure engine (`engine`), its evidence (`tally`, `verdicts`), the one loop (`loop`), its durable state
(`start`, `lease`) and its explanation (`why`).

Deciding is apart from doing: `engine.step` sees the record, the world and the time, and returns the next record and the
actions. Only `loop` reads, writes and acts.
"""
