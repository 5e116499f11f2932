-- Every time a vCPU wanted to run and did not, for longer than a threshold: 10 ms, in the WHERE clause.
--
-- vcpu     VM and vCPU
-- start    host time in nanoseconds, as the timeline shows it
-- ms       how long
-- stall    what happened
-- task     the guest task that was interrupted, if the guest was recorded
-- cpu      the physical CPU
-- longest  who ran longest meanwhile, and for how long
--
-- Example (two-vm, --span all): b vCPU 1 | 78940520429 | 136.416 | preempted by khugepaged [36] | NULL | 0 |
-- khugepaged [36] 128.628 ms
SELECT
  substr(track.name, 4) AS vcpu,
  marks.ts AS start,
  round(marks.dur / 1e6, 3) AS ms,
  marks.name AS stall,
  (SELECT task.name FROM ancestor_slice(marks.id) AS task WHERE task.category = 'task') AS task,
  extract_arg(marks.arg_set_id, 'debug.cpu') AS cpu,
  extract_arg(marks.arg_set_id, 'debug.ran_instead_1') AS longest
FROM slice AS marks
JOIN track ON track.id = marks.track_id
WHERE
  track.name GLOB 'VM * vCPU *'
  AND marks.category IN ('off-cpu', 'exit')
  AND marks.dur > 10e6
ORDER BY marks.dur DESC
