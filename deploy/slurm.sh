#!/usr/bin/env bash
# A run as one job of SLURM, which goes on in the next one where its time is over.
#
#   sbatch slurm.sh slide.yaml                                       all in this job, by threads
#   sbatch --cpus-per-task=1 slurm.sh slide.yaml --cluster slurm -c workers=16 -c walltime=1h
#                                                                    workers are jobs of their own
#
#SBATCH --job-name=diffuse
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Before the time is over, or the job is preempted, the run lets its tiles end.
#SBATCH --signal=B:TERM@60

set -uo pipefail

how=()
if [[ " $* " != *" --cluster "* ]]; then
    how+=(--threads "${SLURM_CPUS_PER_TASK:-1}")
    [[ -z ${SLURM_MEM_PER_NODE:-} ]] || how+=(--memory "${SLURM_MEM_PER_NODE}MiB")
fi

# In the background, as bash hears no signal while it waits for a command in the foreground.
diffuse run "${how[@]}" "$@" &
run=$!
trap 'kill -TERM "$run" 2>/dev/null' TERM
wait "$run"
code=$?
# A signal ends the wait before the run has ended.
while kill -0 "$run" 2>/dev/null; do
    wait "$run"
    code=$?
done

# 75: its walltime is over (--walltime); 143: it was asked to stop. The same command goes on.
if [[ $code == 75 || $code == 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
