#!/bin/sh
# Make the database on the first start, then become it; the password is that of the secret at every start.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$PGDATA" "$PGDATA.new"
    initdb -D "$PGDATA.new" -U blog --pwfile=/run/secrets/db-password --auth-host=scram-sha-256 --auth-local=trust >/dev/null
    echo 'host all blog all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
    echo "include '/etc/blog-db.conf'" >> "$PGDATA.new/postgresql.conf"
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
