"""How a candidate meets live traffic: the rollout engine, its statistics, the loop around it, and the appliers.

Lives here: deciding (`rollout.engine`, pure), doing (`rollout.loop`, `backends`), proving (`statistics`), explaining
(`rollout.why`). Never: Ray, an HTTP server, the prediction itself. Evidence comes from the router's own counters.
"""
