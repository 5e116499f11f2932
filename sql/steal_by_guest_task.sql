-- How much of the time that a guest believes its tasks ran did the host take away? The duration of each task's slices
-- less the marks that are nested in them.
--
-- vm         VM
-- task       comm [pid]
-- running_ms between being switched in and out: what the guest believes
-- stolen_ms  the vCPU's thread was preempted, waiting or blocked meanwhile
-- handled_ms the host worked on one exit for at least --stall (100us unless given to convert)
-- stolen     stolen_ms as a share of running_ms, in per cent
--
-- Example (two-vm, --span all): a | init [181] | 862.212 | 390.75 | 34.139 | 45.3
WITH
  rows AS (
    SELECT id, substr(name, 4, instr(name, ' vCPU ') - 4) AS vm FROM track WHERE name GLOB 'VM * vCPU *'
  ),
  marks AS (
    SELECT task.name AS task, rows.vm, marks.category, marks.dur
    FROM slice AS marks
    JOIN rows ON rows.id = marks.track_id
    JOIN ancestor_slice(marks.id) AS task
    WHERE marks.category IN ('off-cpu', 'exit') AND task.category = 'task'
  ),
  lost AS (
    SELECT
      vm,
      task,
      sum(iif(category = 'off-cpu', dur, 0)) AS stolen,
      sum(iif(category = 'exit', dur, 0)) AS handled
    FROM marks GROUP BY vm, task
  ),
  ran AS (
    SELECT rows.vm, slice.name AS task, sum(slice.dur) AS running
    FROM slice JOIN rows ON rows.id = slice.track_id
    WHERE slice.category = 'task'
    GROUP BY rows.vm, task
  )
SELECT
  ran.vm,
  ran.task,
  round(running / 1e6, 3) AS running_ms,
  round(coalesce(stolen, 0) / 1e6, 3) AS stolen_ms,
  round(coalesce(handled, 0) / 1e6, 3) AS handled_ms,
  round(100.0 * coalesce(stolen, 0) / max(running, 1), 1) AS stolen
FROM ran LEFT JOIN lost ON lost.vm = ran.vm AND lost.task = ran.task
ORDER BY running DESC, ran.vm, ran.task
