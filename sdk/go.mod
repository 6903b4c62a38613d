module github.com/hawser-project/hawser/sdk

go 1.26
