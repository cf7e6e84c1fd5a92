# What the Bash scripts of this package do alike: they show their help, take options, refuse, find and start the
# program, and end what they have started and remove what they have not finished when they end.
#
#   source "$(dirname "$(readlink -f "$0")")/command_line/script.bash"
#
# It sets package_root, the folder of the package, and script_name. Both hold wherever the script is called from, and by
# whatever link.
# shellcheck shell=bash

script_file=$(readlink -f "$0")
script_name=${script_file##*/}
package_root=$(readlink -f "${BASH_SOURCE[0]}")
package_root=${package_root%/*/*/*}

# A relative path counts from where the first script was called, whichever scripts that one calls and from where.
if [[ -n ${KINSHIP_DATA:-} && $KINSHIP_DATA != /* ]]; then export KINSHIP_DATA=$PWD/$KINSHIP_DATA; fi

# --- messages ---

say() { printf '%s: %s\n' "$script_name" "$*" >&2; }

# fail WORDS…: ends the script, for an argument or the system is wrong.
fail() { fail_with 64 "$@"; }

# fail_with CODE WORDS…
fail_with() {
  say "${@:2}"
  exit "$1"
}

# The comment at the script's head, up to the line that begins with set.
help_text() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$script_file"; }

# Shows the help because it was asked for.
show_help() {
  help_text
  exit 0
}

# Shows the help because arguments lack.
usage() {
  help_text >&2
  exit 64
}

# --- options ---

# take_options MODE SPECIFICATION… -- ARGUMENT…: sets variables by the options among the arguments, and leaves the other
# words in the array `words`. --help and -h show the help. MODE says what the other words are:
#
#   nothing   there are none
#   words     they stand anywhere among the options
#   command   the first begins a command, whose options are its own
#
# A specification is one of
#
#   --ranks=ranks       an option with a value, which goes to the variable `ranks`
#   --sweep+=sweeps     one that may be given several times, for the array `sweeps`
#   --fresh:fresh=yes   one without a value, which sets `fresh` to yes
#
# `unknown_hint` is said of an option that is not known.
unknown_hint=''
take_options() {
  local mode=$1 specification name value
  local -A variable_of=() array_of=() setting_of=()
  shift
  while [[ $1 != -- ]]; do
    specification=$1
    case $specification in
      --*+=*) array_of[${specification%%+=*}]=${specification#*+=} ;;
      --*:*=*) setting_of[${specification%%:*}]=${specification#*:} ;;
      *) variable_of[${specification%%=*}]=${specification#*=} ;;
    esac
    shift
  done
  shift
  words=()
  while [[ $# -gt 0 ]]; do
    name=${1%%=*}
    if [[ $1 == --help || $1 == -h ]]; then
      show_help
    elif [[ $1 == -- && $mode != nothing ]]; then
      shift
      words+=("$@")
      return
    elif [[ $1 == -* && -n ${setting_of[$1]-} ]]; then
      printf -v "${setting_of[$1]%%=*}" '%s' "${setting_of[$1]#*=}"
      shift
    elif [[ $1 == -* && -n ${variable_of[$name]-}${array_of[$name]-} ]]; then
      if [[ $1 == *=* ]]; then
        value=${1#*=}
      elif [[ $# -ge 2 ]]; then
        value=$2
        shift
      else
        value=''
      fi
      shift
      [[ -n $value ]] || fail "$name needs a value"
      if [[ -n ${variable_of[$name]-} ]]; then
        printf -v "${variable_of[$name]}" '%s' "$value"
      else
        local -n array=${array_of[$name]}
        array+=("$value")
        unset -n array
      fi
    elif [[ $mode == nothing ]]; then
      fail "unknown argument $1${unknown_hint:-; see scripts/$script_name --help}"
    elif [[ $1 == -* ]]; then
      fail "unknown option $1${unknown_hint:-; see scripts/$script_name --help}"
    elif [[ $mode == command ]]; then
      words+=("$@")
      return
    else
      words+=("$1")
      shift
    fi
  done
}

# expect_number OPTION VALUE: refuses what is no number from 1; no value stands for one that was not given. With more
# than 64 bits Bash would calculate with another number.
expect_number() {
  [[ -z $2 || $2 =~ ^[1-9][0-9]*$ ]] || fail "$1: expected a number from 1, found '$2'"
  [[ ${#2} -le 9 ]] || fail "$1: expected a number of at most 999999999, found '$2'"
}

# --- the data ---

# Sets `data` to the path of the folder for what is fetched and imported: what KINSHIP_DATA names, or data in this
# source. An installed package, which may not be written to, has it in the current folder. It need not be there.
# scripts/command_line/data.py has the same rule for programs in Python.
name_data() {
  data=${KINSHIP_DATA:-}
  if [[ -z $data && -e $package_root/Package.swift ]]; then data=$package_root/data; fi
  [[ -n $data ]] || data=$PWD/data
}

# --- the program ---

# Sets `program` to the path of kinship: what KINSHIP names, the program of the installed package that the script
# belongs to, or the release build of this package. It need not be there.
name_program() {
  program=${KINSHIP:-}
  # An installed package has its program in a place of its own, and no manifest.
  [[ -n $program || -e $package_root/Package.swift ]] || program=$(readlink -f "$package_root/../../bin/kinship") || true
  [[ -n $program ]] || program=$package_root/.build/release/kinship
  [[ $program == /* ]] || program=$PWD/$program
}

# Sets `program` likewise, and refuses to go on without it.
find_program() {
  name_program
  [[ -f $program && -x $program ]] ||
    fail "no program at $program; build it with: swift build -c release, or name another one with KINSHIP"
}

# Sets up the libraries, and sets and exports KINSHIP: what it names already, or the release build of this package,
# which is brought up to date.
build_program() {
  # shellcheck source=scripts/setup
  source "$package_root/scripts/setup"
  if [[ -z ${KINSHIP:-} ]]; then
    swift build --package-path "$package_root" -c release --product kinship >&2
  fi
  name_program
  export KINSHIP=$program
}

# on_ranks NUMBER COMMAND…: starts `program` on ranks, bound to cores. Where there are fewer cores than ranks, these
# share them, unbound.
on_ranks() {
  local ranks=$1 cores
  shift
  # nproc also counts by these variables, which are about threads.
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  if [[ $ranks -le $cores ]]; then
    KINSHIP=$program "$package_root/scripts/launch-mpirun" --ranks "$ranks" "$@"
  else
    share_cores "$ranks" "$@"
  fi
}

# share_cores NUMBER COMMAND…: starts `program` on ranks that share all cores.
share_cores() {
  # shellcheck source=scripts/environment
  source "$package_root/scripts/environment"
  kinship_allow_root
  mpirun --oversubscribe -n "$1" "$program" "${@:2}"
}

# run_program WORD… -- ARGUMENT…: starts the Python program of a wrapper, `python3 -B` and the words, with the
# arguments. Mistakes are found by its --dry-run before anything is built, and --help needs neither.
run_program() {
  # Python's compiled files would lie among the sources.
  local start=(python3 -B)
  while [[ $1 != -- ]]; do
    start+=("$1")
    shift
  done
  shift
  case " $* " in
    *' --help '* | *' -h '*) show_help ;;
    *' --dry-run '*) exec "${start[@]}" "$@" ;;
  esac
  "${start[@]}" "$@" --dry-run >/dev/null
  if [[ " $* " != *' --kinship'[\ =]* ]]; then build_program; else source "$package_root/scripts/setup"; fi
  exec "${start[@]}" "$@"
}

# --- the end ---

unfinished=()
# When the script ends, by a signal too, the commands that still run are ended and unfinished files are removed. A
# signal that ends a shell leaves what it has started.
clean_up_at_end() { trap clean_up EXIT; }

clean_up() {
  local status=$? children=() child
  trap '' INT HUP TERM
  read -r -a children 2>/dev/null <"/proc/$$/task/$$/children" || true
  for child in "${children[@]+"${children[@]}"}"; do kill -TERM "$child" 2>/dev/null || true; done
  # It may have a checkpoint to write.
  for child in "${children[@]+"${children[@]}"}"; do
    while kill -0 "$child" 2>/dev/null && grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$child/status"; do sleep 0.05; done
  done
  [[ ${#unfinished[@]} -eq 0 ]] || rm -rf -- "${unfinished[@]}"
  exit "$status"
}

# temporary_folder NAME [PATTERN]: makes a folder, which is removed when the script ends, and sets NAME to its path.
temporary_folder() {
  local made
  made=$(mktemp -d ${2:+"$2"}) || fail_with 74 "cannot make a folder of its own (${2:-${TMPDIR:-/tmp}}); choose another one"
  clean_up_at_end
  unfinished+=("$made")
  printf -v "$1" '%s' "$made"
}
