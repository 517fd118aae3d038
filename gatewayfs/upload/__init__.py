"""Write-back: what changed here goes to the bucket, in its own time, and nothing is lost on the way."""
