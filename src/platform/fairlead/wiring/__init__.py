"""The only place that knows every stage: from the project file to live parts.

`steps` holds one function per pipeline step, and `data`, `train`, `evaluate`, `release` what they do; `context` says
for which project and run; `models` finds versions and their bundles; `serving` brings servers up and speaks to them;
`rollouts` hosts the loop of deploy/rollout on live evidence; `overview` is what a person can see; `progress` is how a
step tells the terminal where it is; `local_ray` is the Ray that training and serving share on a laptop.
"""
