-- Executed once, by the image of Postgres as its administrator, when the data folder is empty: the database, and the
-- login that `lockgate migrate` uses. It owns the schema, may make the logins of the programs, and is no superuser.
\set password `cat /run/lockgate/owner/password`
create role lockgate_owner login createrole password :'password';
create database lockgate owner lockgate_owner;
