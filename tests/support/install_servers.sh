#!/usr/bin/env bash
# Installs what tests start for themselves, from Debian's packages: PostgreSQL, MariaDB and a browser. As root.
set -euo pipefail
packages=()
compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null || packages+=(postgresql)
command -v mariadbd > /dev/null || packages+=(mariadb-server)
command -v chromium > /dev/null || packages+=(chromium)
if [ ${#packages[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}" > /dev/null
fi
