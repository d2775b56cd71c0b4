-- The log, what it amounts to, and who must be woken. No controller's name occurs in it.
-- Instants are bigint microseconds; amounts are numeric(78,0), which holds an unsigned integer of 256 bits.
-- `sk` is a subject's short key: its names are spelled once. Evidence has no foreign keys: they cost a block up to twice.

create table subjects (
  sk bigint generated always as identity primary key, tenant text not null, kind text not null, id text not null,
  unique (tenant, kind, id));
-- A row for life: were it deleted, its version would begin again and a stale pass could commit.
create sequence serials;
create table heads (
  sk bigint primary key, tenant text not null,
  version bigint not null default 0, -- raised by everything that lands and by every wake-up; 0: nobody wrote yet
  records int not null default 0,
  due bigint,                        -- of the clock "now"; null: nothing to do
  lease bigint not null default 0,   -- until then another claim steps over it
  serial bigint                      -- order of declaration
) with (fillfactor = 60);
create index heads_due on heads (due, sk) where due is not null;
-- The nearest value of each other clock that a subject waits for.
create table wakes (sk bigint not null, clock text not null, at bigint not null, tenant text not null, primary key (sk, clock));
create index wakes_clock on wakes (clock, at);

-- Evidence. `body` is json, not jsonb, which would order its keys anew.
create table records (
  sk bigint not null, n int not null, tenant text not null, version bigint not null,
  key text not null, type text not null, body json not null,
  essence text,                      -- of specs, decisions, attempts: what must agree under one key
  rail text, position bigint, branch int, -- of facts with a place
  primary key (sk, key), unique (sk, n));
create index records_place on records (rail, position) where position is not null;
create table events (
  sk bigint not null, version bigint not null, tenant text not null, body json not null,
  report json not null,              -- the record that it is to whoever watches the subject
  primary key (sk, version));
-- The entry of a commit is known by (subject, version).
create table transfers (
  sk bigint not null, version bigint not null, n int not null, tenant text not null,
  posting text not null, account text not null, asset text not null, minor numeric(78,0) not null,
  primary key (sk, version, n));

-- What the records amount to.
create table statuses (
  sk bigint primary key, tenant text not null, kind text not null, serial bigint not null,
  state text not null, mover text not null, body json not null) with (fillfactor = 70);
create index statuses_mover on statuses (tenant, kind, mover, serial);
create table names (
  tenant text not null, kind text not null, value text not null, sk bigint not null, is_unique boolean not null,
  primary key (tenant, kind, value, sk));
create unique index names_unique on names (tenant, kind, value) where is_unique;
create index names_sk on names (sk);
create table sums (
  tenant text not null, account text not null, asset text not null, minor numeric(78,0) not null,
  primary key (tenant, account, asset)) with (fillfactor = 50);

-- Reading the rails. Versions of a watch set are given out under its row's lock, held to the commit: whoever pages by
-- them misses none that commits late. A watch on rail "bursar" is for the reports of the subject that its key names.
create table cursors (
  rail text primary key, position bigint not null, trail text[] not null, branch int not null,
  watermark bigint not null, watched bigint not null);
create table watch_sets (rail text primary key, version bigint not null);
create table watches (
  sk bigint not null, rail text not null, key text not null, since bigint not null, tenant text not null,
  version bigint not null, scanned boolean not null, covered boolean not null, ended boolean not null,
  primary key (sk, rail, key, since));
create index watches_version on watches (rail, version) where version > 0;
create index watches_uncovered on watches (rail, version) where not covered and not ended;
create index watches_readers on watches (key) where rail = 'bursar';

-- Telling. A sink owes what is wanted of a subject and not confirmed; `turn`: whoever was tried goes to the back.
create table sinks (sink text primary key);
create sequence turns;
create table deliveries (
  sink text not null, sk bigint not null, tenant text not null,
  wanted bigint not null, confirmed bigint not null, turn bigint not null, primary key (sink, sk));
create index deliveries_owed on deliveries (sink, turn) where wanted > confirmed;
-- Committed events get their numbers one reader at a time, so no later commit comes in between.
create table unnumbered (
  id bigint generated always as identity primary key, tenant text not null, sk bigint not null, version bigint not null);
create sequence numbers;
create table numbered (
  number bigint primary key, tenant text not null, sk bigint not null, version bigint not null);
create index numbered_tenant on numbered (tenant, number);
create index numbered_sk on numbered (sk, number);

-- Of the doors and of those who take turns.
create table api_keys (
  tenant text not null, id text not null, hash bytea not null, role text not null, created bigint not null, revoked bigint,
  primary key (tenant, id));
create unique index api_keys_hash on api_keys (hash);
create table idempotency (
  tenant text not null, key text not null, digest bytea not null, response json, at bigint not null,
  primary key (tenant, key));
create table leases (name text primary key, owner text not null, until bigint not null);

-- Protection. The login roles own nothing, so they can neither disable a trigger nor leave row-level security.
create function frozen() returns trigger language plpgsql as $$
begin
  raise exception '% is evidence: rows are only added', tg_table_name using errcode = 'insufficient_privilege';
end $$;
grant usage on schema bursar to bursar_engine, bursar_api, bursar_read;
grant usage on all sequences in schema bursar to bursar_engine, bursar_api;
grant select on all tables in schema bursar to bursar_engine, bursar_read;
do $$
declare
  evidence text[] := array['subjects', 'records', 'events', 'transfers', 'numbered'];
  levels text[] := array['heads', 'wakes', 'statuses', 'names', 'sums', 'cursors', 'watch_sets', 'watches', 'sinks',
    'deliveries', 'unnumbered', 'api_keys', 'idempotency', 'leases'];
  shared text[] := array['cursors', 'watch_sets', 'sinks', 'leases'];  -- of no tenant
  t text;
begin
  foreach t in array evidence loop
    execute format('create trigger keep_rows before update or delete on %I for each row execute function frozen()', t);
    execute format('create trigger keep_all before truncate on %I for each statement execute function frozen()', t);
    execute format('grant insert on %I to bursar_engine', t);
  end loop;
  foreach t in array levels loop
    execute format('grant insert, update, delete on %I to bursar_engine', t);
  end loop;
  foreach t in array evidence || levels loop
    continue when t = any(shared);
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy everybody on %I to bursar_engine, bursar_read using (true) with check (true)', t);
    execute format($p$create policy tenant on %I to bursar_api using (tenant = current_setting('bursar.tenant', true))
      with check (tenant = current_setting('bursar.tenant', true))$p$, t);
    execute format('grant select on %I to bursar_api', t);
  end loop;
end $$;
-- The rails and their sources are everybody's to see.
create policy common on subjects for select to bursar_api using (tenant = 'system');
create policy common on statuses for select to bursar_api using (tenant = 'system');
-- What a command writes: never a sum or a transfer, a cursor, an attempt or what a rail said.
grant select on cursors, watch_sets, sinks to bursar_api;
grant insert on subjects, records, events, numbered to bursar_api;
grant insert, update on heads, statuses, watch_sets, deliveries, idempotency to bursar_api;
grant insert, update, delete on wakes, names, watches, unnumbered to bursar_api;
create policy commands on records as restrictive for insert to bursar_api with check (type in ('spec', 'decision', 'report'));
