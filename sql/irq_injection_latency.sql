-- From the exit in which KVM injected an interrupt to the guest's first interrupt handler in the run window that
-- follows: how long does it take the guest to begin with it?
--
-- Needs a guest that recorded its interrupts (irq, irq_vectors or hrtimer events). Injections whose window shows no
-- handler are left out.
--
-- vcpu       VM and vCPU
-- injections how many had a handler in the next window
-- mean_us    from the end of the exit (kvm_entry) to the begin of the handler
-- max_us     the longest
-- from_exit_mean_us  the mean from the begin of the exit, so with the host's part
-- handler    the handler that was first most often
--
-- Example (two-vm): a vCPU 0 | 463 | 64.863 | 306.748 | 1575.915 | hrtimer tick_sched_timer
WITH
  rows AS (
    SELECT state.id AS state, vcpu.id AS vcpu, substr(vcpu.name, 4) AS name
    FROM track AS state
    JOIN track AS vcpu ON vcpu.name = 'VM ' || substr(state.name, length('Host state, ') + 1)
    WHERE state.name GLOB 'Host state, *'
  ),
  moments AS (
    SELECT rows.name AS vcpu, 'handler' AS what, slice.name AS name, slice.ts, slice.ts AS until, 0 AS begin
    FROM slice JOIN rows ON rows.vcpu = slice.track_id
    WHERE slice.category = 'irq' AND slice.name NOT GLOB 'softirq *'
    UNION ALL
    -- An exit counts from its end; its handler must begin before the window's end.
    SELECT rows.name, 'exit', exits.name, window.ts, window.ts + window.dur, exits.ts
    FROM slice AS exits
    JOIN rows ON rows.state = exits.track_id
    JOIN slice AS window ON
      window.track_id = exits.track_id AND window.ts = exits.ts + exits.dur AND window.category = 'guest'
    WHERE exits.category = 'exit' AND extract_arg(exits.arg_set_id, 'debug.kvm_inj_virq') IS NOT NULL
  ),
  -- From the last to the first: the next handler is the one seen last.
  ordered AS (
    SELECT
      *,
      min(iif(what = 'handler', ts, NULL)) OVER (
        PARTITION BY vcpu ORDER BY ts DESC, what DESC ROWS UNBOUNDED PRECEDING
      ) AS next
    FROM moments
  ),
  found AS (
    SELECT ordered.vcpu, ordered.ts, ordered.begin, ordered.next, handler.name AS handler
    FROM ordered
    JOIN moments AS handler ON
      handler.vcpu = ordered.vcpu AND handler.what = 'handler' AND handler.ts = ordered.next
    WHERE ordered.what = 'exit' AND ordered.next <= ordered.until
  )
SELECT
  vcpu,
  count(*) AS injections,
  round(avg(next - ts) / 1e3, 3) AS mean_us,
  round(max(next - ts) / 1e3, 3) AS max_us,
  round(avg(next - begin) / 1e3, 3) AS from_exit_mean_us,
  (
    SELECT handler FROM found AS other WHERE other.vcpu = found.vcpu
    GROUP BY handler ORDER BY count(*) DESC, handler LIMIT 1
  ) AS handler
FROM found
GROUP BY vcpu
ORDER BY vcpu
