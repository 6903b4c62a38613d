// Package faults proves the bus's promises under faults. A workload runs on the embedded driver while the machine fails
// it: power is lost at seeded moments and unsynced writes with it, the process is killed, an fsync fails, the disk is full,
// files are cut off or damaged. Observers outside of the bus write down what they were told, and bustest/history compares
// that with what is left. That the comparison can fail is shown with drivers that have a known bug each.
//
// The distributed driver runs in worker processes, on a Kafka and a PostgreSQL of the test's own. All of them are killed,
// stopped and cut off from each other in an order drawn from a seed. These tests need dev/services and are skipped without.
//
// The tests are short by default. Longer runs are asked for in the environment: HAWSER_CRASH_SEEDS (how many seeded
// crash points), HAWSER_CRASH_SEED (one of them), HAWSER_KILLS (how many kills), HAWSER_CUTS=all (every length of a log);
// HAWSER_FAULT_ROUNDS (how many rounds of eight faults), HAWSER_FAULT_SEED (their order), and HAWSER_FAULT_REPORT (a folder
// for docs/reports/bus-faults.md and its plot).
package faults
