#!/bin/sh
# The records of dns-01 in a hosted zone of Route 53: for dns_providers of kind "exec".
#
#   command = ["/etc/usher/route53.sh", "Z0123456789ABCDEFGHIJ"]     the hosted zone's id
#
# Usher adds `present|clear NAME TEXT`. It needs the AWS CLI (`aws`, version 1.29 or 2.13, or newer). Credentials come by
# what `aws` itself reads: ~/.aws of Usher's user, or the role of the machine; the environment brings none. The rights it
# needs stand in README.md beside this file.
#
# Tried with awscli 1.46 against moto 5.2, which serves Route 53's API on one machine; not against AWS itself.
set -eu
export AWS_PAGER=''

if [ $# != 4 ]; then
  echo "usage: route53.sh ZONE-ID present|clear NAME TEXT" >&2
  exit 2
fi
zone=$1 action=$2 name=$3 text="\"$4\""

# Whatever is not a text of ours would break out of the JSON below.
case $name$4 in *[!A-Za-z0-9._-]*)
  echo "a name or a text with a character that neither has" >&2
  exit 2
  ;;
esac

# The record: a line with its TTL, then its values, one a line, in quotes as Route 53 keeps them; nothing when there is none.
record() {
  # Not straight into tr, which would hide that aws failed.
  listed=$(aws route53 list-resource-record-sets --hosted-zone-id "$zone" --max-items 1 \
    --start-record-name "$name." --start-record-type TXT --output text \
    --query "ResourceRecordSets[?Name=='$name.' && Type=='TXT'].[TTL,ResourceRecords[].Value]")
  printf '%s\n' "$listed" | tr '\t' '\n'
}

# One change of the record with these values: change ACTION TTL VALUES.
change() {
  printf '%s' "$3" | awk -v action="$1" -v ttl="$2" -v name="$name." '
    { gsub(/"/, "\\\""); records = records (NR > 1 ? "," : "") "{\"Value\":\"" $0 "\"}" }
    END {
      printf "{\"Action\":\"%s\",\"ResourceRecordSet\":{\"Name\":\"%s\",\"Type\":\"TXT\",\"TTL\":%s,", action, name, ttl
      printf "\"ResourceRecords\":[%s]}}", records
    }'
}

# A record has all its values at once. The old ones are deleted and the new ones created in one step, which Route 53
# refuses when somebody else has changed them in between: then it begins anew.
for _ in 1 2 3 4 5; do
  found=$(record)
  ttl=$(printf '%s\n' "$found" | sed -n 1p)
  before=$(printf '%s\n' "$found" | sed 1d)
  case $action in
    present) after=$(printf '%s\n%s\n' "$before" "$text" | grep . | sort -u) ;;
    clear) after=$(printf '%s\n' "$before" | grep . | grep -Fxv "$text" | sort || true) ;;
    *)
      echo "neither present nor clear: $action" >&2
      exit 2
      ;;
  esac
  [ "$(printf '%s\n' "$before" | sort)" != "$after" ] || exit 0
  changes=''
  [ -z "$before" ] || changes=$(change DELETE "$ttl" "$before")
  [ -z "$after" ] || changes=$changes${changes:+,}$(change CREATE 60 "$after")
  if told=$(aws route53 change-resource-record-sets --hosted-zone-id "$zone" \
    --change-batch "{\"Changes\":[$changes]}" 2>&1); then
    exit 0
  fi
  case $told in *InvalidChangeBatch* | *PriorRequestNotComplete*) ;; *) break ;; esac
done
echo "$told" >&2
exit 1
