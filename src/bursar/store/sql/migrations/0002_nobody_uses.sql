-- Keys are subjects, a command is known by its subject's id, and who takes turns holds a lock (docs/adr/0001).
drop table api_keys, idempotency, leases;
