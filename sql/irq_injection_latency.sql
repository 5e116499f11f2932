-- From the exit in which KVM injected an interrupt to the guest's handler of it: how long does it take the guest to begin
-- with it?
--
-- Needs `convert --flows all` (its arrows say which handler is whose) and a guest that recorded its interrupts
-- (irq_vectors, irq or hrtimer events). Injections whose handler was not recorded are left out.
--
-- vcpu       VM and vCPU
-- injections how many lead to a handler
-- mean_us    from the end of the exit (kvm_entry) to the begin of the handler
-- max_us     the longest
-- from_exit_mean_us  the mean from the begin of the exit, so with the host's part
-- handler    the most frequent handler
--
-- Example (two-vm): a vCPU 0 | 473 | 89.548 | 8380.85 | 1669.892 | hrtimer tick_sched_timer
WITH
  found AS (
    SELECT
      substr(vcpu.name, 4) AS vcpu, exits.ts AS begin, exits.ts + exits.dur AS entry, handler.ts, handler.name AS handler
    FROM flow
    JOIN slice AS handler ON handler.id = flow.slice_in
    JOIN slice AS tail ON tail.id = flow.slice_out
    -- An exit that sends several interrupts has slices of their own in it.
    JOIN slice AS exits ON exits.id = iif(tail.category = 'exit', tail.id, tail.parent_id)
    JOIN track AS vcpu ON vcpu.id = handler.track_id
    JOIN track AS state ON state.id = exits.track_id
    WHERE
      handler.category = 'irq'
      AND exits.category = 'exit'
      AND state.name = 'Host state, ' || substr(vcpu.name, 4)
  )
SELECT
  vcpu,
  count(*) AS injections,
  round(avg(ts - entry) / 1e3, 3) AS mean_us,
  round(max(ts - entry) / 1e3, 3) AS max_us,
  round(avg(ts - begin) / 1e3, 3) AS from_exit_mean_us,
  (
    SELECT handler FROM found AS other WHERE other.vcpu = found.vcpu
    GROUP BY handler ORDER BY count(*) DESC, handler LIMIT 1
  ) AS handler
FROM found
GROUP BY vcpu
ORDER BY vcpu
