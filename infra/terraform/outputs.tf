output "regiolect_store" {
  description = "REGIOLECT_STORE of every worker and job."
  value       = "s3://${var.bucket_prefix}-{region}/${var.store_prefix}"
}

output "role_arns" {
  description = "Annotation eks.amazonaws.com/role-arn of each service account, regiolect-<key>."
  value       = merge({ for name, region in module.region : name => region.role_arn }, { control = aws_iam_role.control.arn })
}

output "buckets" {
  description = "Bucket, key and AWS region of each region, and of shared."
  value       = merge({ for name, region in module.region : name => region.location }, { shared = module.shared.location })
}
