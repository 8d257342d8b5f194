output "location" {
  description = "Bucket, key and AWS region."
  value       = module.bucket.location
}

output "role_arn" {
  description = "Role of the service account regiolect-<region>."
  value       = aws_iam_role.this.arn
}
