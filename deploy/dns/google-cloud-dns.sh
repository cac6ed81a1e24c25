#!/bin/sh
# The records of dns-01 in a zone of Google Cloud DNS: for dns_providers of kind "exec".
#
#   command = ["/etc/usher/google-cloud-dns.sh", "PROJECT", "ZONE"]     the project's id, the managed zone's name
#
# Usher adds `present|clear NAME TEXT`. It needs the Google Cloud CLI (`gcloud`). Credentials come by what `gcloud` itself
# reads: ~/.config/gcloud of Usher's user (`gcloud auth login --cred-file=KEY.json`), or the service account of the
# machine; the environment brings none. The rights it needs stand in README.md beside this file.
#
# Tried against a stand-in for `gcloud` that keeps what it is told: that shows which calls are made, in which order and
# with which values, and nothing of what Google answers.
set -eu
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

if [ $# != 5 ]; then
  echo "usage: google-cloud-dns.sh PROJECT ZONE present|clear NAME TEXT" >&2
  exit 2
fi
project=$1 zone=$2 action=$3 name=$4. text="\"$5\""

folder=$(mktemp -d -p "$HOME")
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM

records() {
  gcloud dns record-sets "$@" --project="$project" --zone="$zone"
}
step() {
  records transaction "$@" --transaction-file="$folder/transaction.yaml" >"$folder/said" 2>&1
}

# A record has all its values at once. The old ones are removed and the new ones added in one transaction, which Google
# refuses when somebody else has changed them in between: then it begins anew.
for _ in 1 2 3 4 5; do
  rm -f "$folder/transaction.yaml"
  records list --name="$name" --type=TXT --format='value(ttl,rrdatas)' >"$folder/listed"
  # The TTL, a tab, then the values in one of the ways in which gcloud writes a list. No text of ours has any of these signs.
  ttl=$(sed -n '1s/[^0-9].*//p' "$folder/listed")
  before=$(sed -n '1s/^[0-9]*//p' "$folder/listed" | tr -s "[]\"',; \t" '\n' | sed '/./!d; s/.*/"&"/')
  case $action in
    present) after=$(printf '%s\n%s\n' "$before" "$text" | grep . | sort -u) ;;
    clear) after=$(printf '%s\n' "$before" | grep . | grep -Fxv "$text" | sort || true) ;;
    *)
      echo "neither present nor clear: $action" >&2
      exit 2
      ;;
  esac
  [ "$(printf '%s\n' "$before" | sort)" != "$after" ] || exit 0
  # The words of both lists are the values: they hold no blanks and nothing that a shell would expand.
  # shellcheck disable=SC2086
  if step start &&
    { [ -z "$before" ] || step remove --name="$name" --type=TXT --ttl="$ttl" $before; } &&
    { [ -z "$after" ] || step add --name="$name" --type=TXT --ttl=60 $after; } &&
    step execute; then
    exit 0
  fi
done
cat "$folder/said" >&2
exit 1
