// Package faults proves the bus's promises under faults. A workload runs on the embedded driver while the machine fails
// it: power is lost at seeded moments and unsynced writes with it, the process is killed, an fsync fails, the disk is full,
// files are cut off or damaged. Observers outside of the bus write down what they were told, and bustest/history compares
// that with what is left. That the comparison can fail is shown with drivers that have a known bug each.
//
// The tests are short by default. Longer runs are asked for in the environment: HAWSER_CRASH_SEEDS (how many seeded
// crash points), HAWSER_CRASH_SEED (one of them), HAWSER_KILLS (how many kills), HAWSER_CUTS=all (every length of a log).
package faults
