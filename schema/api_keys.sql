-- API keys. The secret never comes here: the program that makes a key sends its digest, and the service compares
-- digests. It reads all keys in force at once and keeps them for seconds, hence the bound on their number.

create type lockgate.scope as enum ('read', 'submit', 'admin');
comment on type lockgate.scope is 'What an API key is good for; each includes those before it.';

create table lockgate.api_key (
  id text collate "C" not null,
  name text collate "C" not null,
  owner text collate "C" not null,
  digest bytea not null,
  scope lockgate.scope not null,
  queue text collate "C",
  create_time timestamptz not null default now(),
  last_used timestamptz,
  revoke_time timestamptz,
  constraint api_key_pkey primary key (id),
  constraint a_key_id_is_12_letters_and_digits check (id ~ '^[a-z0-9]{12}$'),
  constraint a_key_name_is_short_and_plain check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$'),
  constraint an_owner_is_short_and_plain check (owner ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$'),
  constraint a_digest_has_32_bytes check (octet_length(digest) = 32)
);
create unique index a_key_name_is_in_force_once on lockgate.api_key (name) where revoke_time is null;  -- revoke_key
comment on table lockgate.api_key is 'Keys of the HTTP API. Of the secret only its digest is kept.';
comment on column lockgate.api_key.id is 'The part of the key that is no secret, and tells which it is.';
comment on column lockgate.api_key.owner is
  'The scope of its idempotency keys. Keys of one owner share them, so that one can replace another.';
-- A slow hash protects secrets that can be guessed. This one has 256 random bits.
comment on column lockgate.api_key.digest is 'SHA-256 of the whole key.';
comment on column lockgate.api_key.queue is 'The only queue it is good for; null = all.';
comment on column lockgate.api_key.last_used is 'About when it was last used, to some minutes.';

create function lockgate.add_key(
  id text, name text, digest bytea, scope lockgate.scope, queue text default null, owner text default null)
returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform from lockgate.queue q where q.name = add_key.queue for key share;  -- delete_queue waits for this, or this for it
  if queue is not null and not found then
    raise exception 'there is no queue "%"', queue using errcode = 'LG001', hint = 'select queue from queue_detail';
  end if;
  if (select count(*) from lockgate.api_key k where k.revoke_time is null) >= 1000 then
    raise exception 'there are 1000 keys already' using errcode = '23514', constraint = 'at_most_1000_keys_are_in_force';
  end if;
  insert into lockgate.api_key (id, name, owner, digest, scope, queue)
    values (add_key.id, add_key.name, coalesce(add_key.owner, add_key.name), add_key.digest, add_key.scope, add_key.queue);
exception when unique_violation then
  raise exception 'there is a key "%" already', name using errcode = '23505', constraint = 'a_key_name_is_in_force_once';
end
$$;
comment on function lockgate.add_key is
  'Stores a key of the API by its SHA-256. `owner` unless given is the name. `lockgate keys add` makes one.';

create function lockgate.revoke_key(name text) returns boolean
language sql security definer set search_path = lockgate, pg_temp as $$
  with revoked as (
    update lockgate.api_key k set revoke_time = now() where k.name = revoke_key.name and k.revoke_time is null returning 1
  )
  select exists (select from revoked)
$$;
comment on function lockgate.revoke_key is
  'The key in force of this name is good for nothing any more; whether there was one.';

create function lockgate.has_keys() returns boolean
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select exists (select from lockgate.api_key) $$;
comment on function lockgate.has_keys is 'Whether a key was ever made, revoked or not.';

create function lockgate.keys_in_force()
returns table (id text, owner text, digest bytea, scope lockgate.scope, queue text)
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select id, owner, digest, scope, queue from lockgate.api_key where revoke_time is null $$;
comment on function lockgate.keys_in_force is 'The keys that are not revoked, at most 1000, with the SHA-256 of each.';

create function lockgate.note_key_use(ids text[]) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  update lockgate.api_key k set last_used = now()
  where k.id = any (ids) and (k.last_used is null or k.last_used < now() - interval '30 seconds');
end
$$;
comment on function lockgate.note_key_use is 'These keys have been used of late.';

create view lockgate.key_overview as
  select id, name, owner, scope, queue, create_time, last_used, revoke_time from lockgate.api_key;
comment on view lockgate.key_overview is 'Keys of the API, revoked ones too, without what they are compared by.';

create function lockgate.revoke_keys_of(p_queue text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ update lockgate.api_key set revoke_time = now() where queue = p_queue and revoke_time is null $$;
comment on function lockgate.revoke_keys_of is
  'Revokes the keys that are for this queue alone, or they would be good for a later queue of its name. For delete_queue.';
