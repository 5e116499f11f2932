-- Why did each vCPU leave guest mode, how often, and how long was the host busy (or the thread off its CPU) with it?
--
-- vcpu       VM and vCPU
-- reason     the kernel's own name
-- exits      how many
-- total_ms   from kvm_exit to the next kvm_entry, in all
-- mean_us    the same per exit
-- max_us     the longest
-- off_cpu_ms the part of total_ms that the vCPU's thread was not on a CPU (preempted, waiting, halted, blocked)
--
-- Example (two-vm, --span all): a vCPU 0 | interrupt | 8440 | 22931.186 | 2716.965 | 49847.805 | 22039.914
SELECT
  substr(track.name, length('Host state, ') + 1) AS vcpu,
  exits.name AS reason,
  count(*) AS exits,
  round(sum(exits.dur) / 1e6, 3) AS total_ms,
  round(avg(exits.dur) / 1e3, 3) AS mean_us,
  round(max(exits.dur) / 1e3, 3) AS max_us,
  round(sum(coalesce(away.dur, 0)) / 1e6, 3) AS off_cpu_ms
FROM slice AS exits
JOIN track ON track.id = exits.track_id
LEFT JOIN (
  SELECT parent_id, sum(dur) AS dur FROM slice WHERE category = 'off-cpu' AND parent_id IS NOT NULL GROUP BY parent_id
) AS away ON away.parent_id = exits.id
WHERE track.name GLOB 'Host state, *' AND exits.category = 'exit'
GROUP BY vcpu, reason
ORDER BY vcpu, sum(exits.dur) DESC
