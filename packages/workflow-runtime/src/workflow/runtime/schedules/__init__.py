"""Schedules: recurring starts of runs.

spec, crontime    when: `every`, `cron`                                        (pure)
schedule          what a user writes: a spec, an input, policies
records           what runtime and store hand to each other
state             what the runtime keeps in a schedule's row
planning          what is to be done now: one commit, or nothing                (pure)
interventions     what people do to a schedule: each a commit                   (pure)
making            the registered schedules, and the runs of their ticks
materializing     having the plans carried out, whoever else does so
watching          when a worker looks at them
views             schedules as people see them
"""
