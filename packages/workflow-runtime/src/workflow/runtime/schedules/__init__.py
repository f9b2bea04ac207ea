"""Schedules: recurring starts of runs.

spec        when: `every`, `cron`                                     (pure)
schedule    what a user writes: a spec, an input, policies
records     what runtime and store hand to each other
"""
