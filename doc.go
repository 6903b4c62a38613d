// Package hawser is the root of the module. The binary is in cmd/hawser; what flow authors import is the module sdk. No
// other package promises a stable API.
package hawser
